"""Data sets downloaded, written as array_record and verified."""
