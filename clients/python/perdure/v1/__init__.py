"""The generated messages and stubs of the package perdure.v1. `make generate` writes them; nobody edits them."""
