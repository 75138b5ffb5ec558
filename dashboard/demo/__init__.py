"""What `./curfew demo` fills a new installation with: an organization of people, a sandbox cloud, thirty days of history."""
