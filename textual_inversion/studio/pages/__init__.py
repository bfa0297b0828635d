"""The page itself: what Streamlit draws. May import every module of studio but worker; nothing else imports it."""
