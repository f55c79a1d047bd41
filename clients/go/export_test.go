package perdure

// WatchCounts gives the number of watches on each open watch connection, to tests.
func (c *Client) WatchCounts() []int { return c.watches.counts() }
