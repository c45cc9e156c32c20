"""Kinds of scenarios: how data is divided into tasks."""
