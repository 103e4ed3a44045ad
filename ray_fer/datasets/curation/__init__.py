"""From a raw manifest to a curated one: persons, ethnicity, annotators' agreement, EiLA's faces, and a report."""
