"""`lmprog lsp`: the language server protocol around `lmprog.editing`."""
