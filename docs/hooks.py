"""What the site takes from outside `docs/`: README.md, CHANGELOG.md, the notebooks, the settings.

In the files, links are as they work in a checkout; here they are turned to the site's pages.
"""

import re
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from settings_tables import with_tables

_PROJECT = Path(__file__).resolve().parent.parent
_PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


@event_priority(100)  # before the plugin that renders notebooks
def on_files(files, config):
    """Adds the pages that lie elsewhere in the project."""
    for page, source in _PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(_PROJECT / source)))
    for notebook in sorted((_PROJECT / "examples").glob("*.ipynb")):
        page = f"examples/{notebook.name}"
        files.append(File(page, str(_PROJECT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes the tables of the settings, and turns links from a file of the checkout to pages."""
    if page.file.src_uri == "settings.md":
        return with_tables(markdown)
    if page.file.src_uri in _PAGES:
        return markdown.replace("](docs/", "](")
    return re.sub(r"\]\(((?:\.\./)*)\.\./examples/", r"](\1examples/", markdown)


def on_page_content(html, page, config, files):
    """The same for notebooks, which are HTML already."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'href="\.\./docs/([^"#]*)\.md', r'href="../../\1/', html)
