"""Who may call, how often, and from which pages: keys, rates, TLS, hosts and origins."""
