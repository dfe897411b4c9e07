"""Audits: proof that no row of the warehouse knows more than it could have known."""
