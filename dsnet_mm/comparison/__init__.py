"""Compare trained detectors: suites, run results, and verdicts on the paper's claims."""
