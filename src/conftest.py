"""Some packages share their name with the function they are for: hesse comes first, whole, before
pytest imports one of them."""

import hesse  # noqa: F401
