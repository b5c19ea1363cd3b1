"""All that is known of each operation: one record for one operation, one module for one family."""
