"""What is measured of trained runs afterwards, from their files: rows that are published beside a study's lines."""
