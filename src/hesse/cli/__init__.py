"""The command line: the same names as the library, on models and data in files. The only package
that prints."""
