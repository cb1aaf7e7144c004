"""The lab: trains, measures, compares and exports."""
