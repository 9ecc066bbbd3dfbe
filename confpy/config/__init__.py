"""What users write: settings, ``conf.d`` and confd's words."""
