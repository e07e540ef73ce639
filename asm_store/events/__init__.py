"""What an event may be: its types, and what is done to a record before it is stored."""
