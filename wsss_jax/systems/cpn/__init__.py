"""CPN: complementary patches."""
