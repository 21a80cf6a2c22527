"""What is known of the log outside it, and how a log that lost something goes on."""
