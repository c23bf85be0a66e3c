"""LMs: models in this process (`local`), models behind an API (`api`), and wrappers that cache, fake or merge them."""
