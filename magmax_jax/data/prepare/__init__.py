"""Downloads data sets, writes them as array_record and verifies them."""
