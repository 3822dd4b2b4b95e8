"""Guardrails in the search: margins in metres for every step of every candidate. At least 0 is safe; they decide feasibility, never cost."""
