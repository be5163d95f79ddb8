"""Layer 0: errors, argument checks, outward rounding, cached compilation. Imports nothing from the layers above."""
