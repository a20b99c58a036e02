"""Results for people: tables, examples and HTML pages."""
