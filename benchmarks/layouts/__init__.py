"""A zoo of layouts: miniature folders as public data sets have them, and what `configure` proposes for them."""
