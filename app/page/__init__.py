"""The web page: `mscrenal app`. Shiny for Python carries it; the browser keeps the form, this side the model."""
