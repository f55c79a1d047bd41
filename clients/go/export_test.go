package perdure

// WatchCounts returns the number of watches on each open watch connection. It exists for tests.
func (c *Client) WatchCounts() []int { return c.watches.counts() }
