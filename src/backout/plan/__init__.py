"""From a situation to a plan, or to a refusal with its legal options; pure."""
