"""Turns a bare AMD Ryzen AI mini-PC into a verified Gemma 4 inference host: what pyinfra does not have."""

__version__ = "0.1.0"
