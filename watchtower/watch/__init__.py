"""The threads that look: the passes, what rings for them, what looks from beside, and reasons for doubt."""
