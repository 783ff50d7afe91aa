"""The sections of the report: functions of the results, found through the entry points ``qlm_hoomd.report_sections``."""
