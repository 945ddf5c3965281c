"""The overview of the market as pure machines: what each provider is asked and says, whom to ask when, and what is
known of each number. Neither Ray nor sockets; time is passed in.
"""
