"""Bytes of image files to upright pixels: what a header says, what is refused by it, and who decodes.

Nothing is decoded before its header has said what that costs. `selfie.data.image` is the door; nobody else comes here.
"""
