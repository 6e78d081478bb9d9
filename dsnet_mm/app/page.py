"""Lay out the web page, and serve it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import uvicorn

from dsnet_mm.errors import UserError

from .viewer import LOWEST_SCORE, View, Viewer, read_upload

if int(gr.__version__.partition('.')[0]) < 6:
    raise ImportError(f'its version is {gr.__version__}')
MAX_FILE_SIZE = '50mb'
MAX_VISITORS = 16  # the pictures of more visitors are forgotten, the least recently used first
MAX_WAITING = 64  # requests
DELETE_FILES = (600, 3600)  # every 600 seconds, uploads and drawings older than an hour
HEIGHT = 460  # of a picture, in pixels of the page
HEADERS = ['class', 'score', 'left', 'top', 'right', 'bottom']
# installed fonts, not those of a server
THEME = gr.themes.Base(
    font=('ui-sans-serif', 'system-ui', 'sans-serif'),
    font_mono=('ui-monospace', 'Consolas', 'monospace'),
)
CSS = """
#photo img, #drawing img, #maps img { object-fit: contain !important; }
#maps, #maps .grid-wrap { height: auto !important; min-height: 0; }
"""


def build(viewer: Viewer, title: str, score: float) -> gr.Blocks:
    """Build the page.

    Args:
        viewer: The detector.
        title: Title of the page.
        score: Minimum score at the start.
    """
    names = {f'stage {stage}, block {block}': (stage, block) for stage, block in viewer.blocks}
    third = [name for name, (stage, _) in names.items() if stage == 3]
    start = next(reversed(third or [*names]), None)  # as `dsnet-mm streams`

    def detect(image: Any, score: float, name: str | None) -> list[Any]:
        view = viewer.view(image, names.get(name or ''))
        return [view, *viewer.detections(view, score), viewer.maps(view, None)]

    def upload(path: str, score: float, name: str | None) -> list[Any]:
        try:
            view, *drawn = detect(read_upload(Path(path)), score, name)
        except UserError as error:
            raise gr.Error(str(error), title='Refused', print_exception=False) from error
        return [view.shown[..., ::-1], view, *drawn]

    def move(view: View | None, score: float) -> Any:
        return list(viewer.detections(view, score)) if view else gr.skip()

    def choose(view: View | None, score: float, name: str) -> Any:
        return detect(view.image, score, name) if view else gr.skip()

    def click(view: View | None, event: gr.SelectData) -> Any:
        if view is None:
            raise gr.Error('Drop the photograph again: too many visitors came since.',
                           title='Forgotten', print_exception=False)  # fmt: skip
        x, y = event.index
        return viewer.maps(view, (x, y))

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=DELETE_FILES) as page:
        state = gr.State()
        gr.Markdown(f'# {title}\n{viewer.summary}')
        with gr.Row():
            photo = gr.Image(type='filepath', image_mode=None, sources='upload',
                             label='Photograph', elem_id='photo', height=HEIGHT)  # fmt: skip
            drawing = gr.Image(interactive=False, buttons=['fullscreen', 'download'],
                               label='Detections', elem_id='drawing', height=HEIGHT)  # fmt: skip
        # the file as uploaded: gradio would convert some files and has no sentence for others
        setattr(photo, 'preprocess', lambda data: data and data.path)  # noqa: B010 - for mypy
        with gr.Row():
            slider = gr.Slider(LOWEST_SCORE, 1, score, step=0.01, label='Minimum score',
                               elem_id='score')  # fmt: skip
            menu = gr.Dropdown(list(names), value=start, label='Block', elem_id='block',
                               visible=bool(names))  # fmt: skip
        gr.Markdown(
            ' '.join(['Click a pixel to move the cross. Bright cells are strong.', *viewer.notes])
            if names
            else 'The maps need a DS-Net or GLNet backbone, and this detector has '
            f'{type(viewer.backbone).__name__}.'
        )
        gallery = gr.Gallery(columns=4, buttons=['fullscreen', 'download'], visible=bool(names),
                             label='Maps of the block', elem_id='maps')  # fmt: skip
        table = gr.Dataframe(headers=HEADERS, interactive=False, label='Objects', elem_id='table')
        seen = [state, drawing, table, gallery]
        # one event of all visitors at a time, because hooks and the visualizer belong to the model
        one: dict[str, Any] = dict(
            concurrency_id='detector', trigger_mode='always_last', api_visibility='private'
        )
        uploaded = photo.upload(upload, [photo, slider, menu], [photo, *seen], **one)
        uploaded.failure(lambda: [None] * 5, None, [photo, *seen], **one)
        photo.clear(lambda: [None] * 4, None, seen, **one)
        slider.change(move, [state, slider], [drawing, table], show_progress='hidden', **one)
        menu.input(choose, [state, slider, menu], seen, **one)
        if names:
            for picture in (photo, drawing):
                picture.select(click, state, gallery, show_progress='hidden', **one)
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    page.state_session_capacity = MAX_VISITORS
    return page


def web_app(page: gr.Blocks) -> fastapi.FastAPI:
    """Return the server of a page, which serves no files of this machine."""
    return gr.mount_gradio_app(
        fastapi.FastAPI(),
        page,
        path='/',
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=MAX_FILE_SIZE,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=THEME,
        css=CSS,
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 is any free port.

    Raises:
        UserError: If the address cannot be used.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f'{host}, port {port}, cannot be used ({error}); pass another --host or --port'
        ) from error


def serve(page: gr.Blocks, listener: socket.socket) -> None:
    """Print the address, and serve a page until interrupted."""
    host, port, *_ = listener.getsockname()
    print(f'http://{f"[{host}]" if ":" in host else host}:{port} (end with Ctrl-C)', flush=True)
    config = uvicorn.Config(web_app(page), log_level='critical', timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
