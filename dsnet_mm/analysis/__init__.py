"""Measure the cost of models, and compare them with the published formulation."""
