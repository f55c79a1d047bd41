package dev.perdure;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * List that is fetched page by page while you read it. Each {@link #iterator()} and {@link #stream()} starts again at
 * the first item. Reading throws {@link PerdureException}.
 */
public final class Pages<T> implements Iterable<T> {
    record Page<T>(List<T> items, String nextPageToken) {
        /** Creates a page from messages. */
        static <M, T> Page<T> of(List<M> messages, Function<M, T> convert, String nextPageToken) {
            return new Page<>(messages.stream().map(convert).toList(), nextPageToken);
        }
    }

    private final Function<String, Page<T>> fetch;

    Pages(Function<String, Page<T>> fetch) {
        this.fetch = fetch;
    }

    /** Returns the items in order. A page is fetched only once it is read. */
    public Stream<T> stream() {
        return StreamSupport.stream(spliterator(), false);
    }

    @Override
    public Iterator<T> iterator() {
        return new Items();
    }

    private final class Items implements Iterator<T> {
        private String token = "";
        private boolean last;
        private Iterator<T> page = List.<T>of().iterator();

        @Override
        public boolean hasNext() {
            // A page can be empty although more pages follow.
            while (!page.hasNext() && !last) {
                Page<T> fetched = fetch.apply(token);
                page = fetched.items().iterator();
                token = fetched.nextPageToken();
                last = token.isEmpty();
            }
            return page.hasNext();
        }

        @Override
        public T next() {
            if (!hasNext()) {
                throw new NoSuchElementException();
            }
            return page.next();
        }
    }
}
