"""The application's bucket: its versions, what may be done in it, and bringing objects back."""
