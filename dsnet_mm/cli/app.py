"""Show the detections, the masks and the maps of a block of a photograph on a web page."""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from dsnet_mm.errors import UserError

EPILOG = 'Anyone who can reach the address can use the page. End the command with Ctrl-C.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', help='config of the detector')
    parser.add_argument('checkpoint', help='checkpoint of the detector')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='0.0.0.0 for other machines, too (default: 127.0.0.1, this machine only)',
    )
    parser.add_argument('--port', type=int, default=7860, help='0 is any free one (default: 7860)')
    parser.add_argument('--score', type=float, default=0.3, help='minimum score (default: 0.3)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if visible)')


def run(args: argparse.Namespace) -> None:
    """Load the detector, and serve the page until interrupted."""
    # gradio reads these when it is imported
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_OFFLINE='1')
    try:
        from dsnet_mm.app.page import build, listen, serve
    except ImportError as error:
        raise UserError(
            f'gradio cannot be imported ({error}); run `pip install "gradio>=6"`, or '
            '`pip install ".[app]"` in a clone of dsnet-mm'
        ) from error
    from dsnet_mm.app.viewer import LOWEST_SCORE, Viewer
    from dsnet_mm.engine.config import load_config
    from dsnet_mm.engine.predict import Predictor

    if not LOWEST_SCORE <= args.score <= 1:
        raise UserError(f'--score {args.score} must be between {LOWEST_SCORE} and 1')
    with (
        listen(args.host, args.port) as listener,
        TemporaryDirectory(prefix='dsnet-mm-') as folder,
    ):
        os.environ['GRADIO_TEMP_DIR'] = folder  # of uploads and drawings
        cfg = load_config(args.config)
        viewer = Viewer(Predictor(cfg, args.checkpoint, LOWEST_SCORE, args.device))
        page = build(viewer, Path(args.config).stem, args.score)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # deletes the folder, too
        with suppress(KeyboardInterrupt):
            serve(page, listener)
    print('stopped')
