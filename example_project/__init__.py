"""A small Django project that uses asm_store: see its README.md."""
