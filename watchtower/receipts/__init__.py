"""What the tower signs with its own key: the key, receipts for stored events, and receipts as files."""
