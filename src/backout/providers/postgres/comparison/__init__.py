"""Compares rows before a damage with rows now, independently of the rescue: their SQL shares nothing."""
