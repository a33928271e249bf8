"""Reads reports as people and browsers do: their tables, their sentences, what stands in attributes."""

from html.parser import HTMLParser
from urllib.parse import unquote

_EMPTY = {"meta", "input", "br", "path", "rect", "line"}


class Page(HTMLParser):
    """A page, taken apart.

    Attributes:
        tables: by id, or by the label of what holds it: rows of cells, each a text.
        findings: by id of the section.
        problems: what is said to be missing.
        attributes: (element, name, value) of all.
        text: all that can be read.
        policy, script: of the page.
        files: by name, what a link saves.
    """

    def __init__(self, html):
        super().__init__()
        self.tables, self.findings, self.problems, self.attributes = {}, {}, [], []
        self.text, self.policy, self.script, self.files = "", None, "", {}
        self._open, self._rows, self._cell, self._heard = [], None, None, ""
        self._section = self._label = None
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "section":
            self._section = given.get("id")
        if given.get("role") == "region":
            self._label = given["aria-label"]
        if tag == "table":
            self._rows = self.tables[given.get("id") or self._label] = []
        if tag == "tr":
            self._rows.append([])
        if tag in {"td", "th"}:
            self._rows[-1].append("")
            self._cell = self._rows[-1]
        if tag == "small" and self._cell and self._cell[-1]:
            self._cell[-1] += " | "
        if tag == "h2" or given.get("class") == "problem":
            self._heard = ""
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if "download" in given:
            self.files[given["download"]] = unquote(given["href"].partition(",")[2])

    def handle_endtag(self, tag):
        if tag in _EMPTY:
            return
        assert self._open.pop() == tag
        if tag in {"td", "th"}:
            self._cell = None
        if tag == "h2":
            self.findings[self._section] = self._heard
        if tag == "p":
            self.problems.append(self._heard)

    def handle_data(self, data):
        if "script" in self._open:
            self.script += data
        elif "style" not in self._open:
            self.text += data
            self._heard += data
            if self._cell is not None:
                self._cell[-1] += data.strip()
