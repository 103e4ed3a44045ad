"""Decoding, temporal sampling, face detection and alignment. Imports neither Ray nor torch."""
