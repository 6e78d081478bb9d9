"""Hooks of mkdocs: show the pages in the root of the repository on the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
    'CHANGELOG.md': 'changelog.md',
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with links as they are within ``docs``."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding='utf-8').replace('](docs/', '](')
        files.append(File.generated(config, target, content=_on_site(text, '')))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links from ``docs`` to the root lead to the pages of the site."""
    return _on_site(markdown, '../')


def _on_site(text: str, folder: str) -> str:
    def link(match: re.Match[str]) -> str:
        return f']({PAGES[match[1]]}'

    names = '|'.join(map(re.escape, PAGES))
    return re.sub(rf'\]\({re.escape(folder)}({names})(?=[)#])', link, text)
