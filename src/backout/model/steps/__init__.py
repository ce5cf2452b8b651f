"""The arguments and the result of each kind of step: frozen values, stored in the journal as JSON.

`XStep` names the action that does it; `XResult` is what that action returns. A file for each procedure.
"""
