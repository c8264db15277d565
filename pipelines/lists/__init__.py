"""Folders, CSV files and data sets' lists -> records of labelled clips."""
