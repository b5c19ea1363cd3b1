"""Certificates: every number that leaves hesse is held against an independent way of getting it, on
the user's own function."""

from hesse.certificates.certificate import Certificate

__all__ = ["Certificate"]
