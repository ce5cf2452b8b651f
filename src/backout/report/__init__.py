"""Values to text: incident reports, timelines, tables, records; pure."""
