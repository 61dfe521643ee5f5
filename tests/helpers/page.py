"""An HTML page taken apart."""

from html.parser import HTMLParser

VOID_TAGS = {"meta", "link", "img", "input", "path", "circle", "rect", "br"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), its texts, and a check that every element is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag, css_class=None):
        found = [attrs for name, attrs in self.elements if name == tag]
        return [a for a in found if css_class is None or css_class in (a.get("class") or "").split()]
