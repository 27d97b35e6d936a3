"""Static files that run in a browser: the page of the server and the published page."""
