"""Layer 6: results as tables, figures and one self-contained HTML page. Judges nothing, computes nothing."""
