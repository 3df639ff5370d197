"""Proved lower bounds of the number of passes, to know when the search may stop.

One direction (columns or rows): the columns of one row need different colours, so the longest row
is a bound.

Both directions: a forward pass yields m numbers and a reverse pass n, and every entry is read from
a number of its own.

Symmetric: a pass yields one number per vertex and every entry of a triangle is read from a number
of its own. Also, a vertex with a diagonal entry needs a colour, so the subgraph of such vertices is
properly coloured, and each pair of colours induces a forest there: with k colours n vertices have
at most ``(k - 1) n - k (k - 1) / 2`` edges. A clique needs as many colours as vertices, and a star
colouring has two colours only if no two vertices of degree two are neighbours.
"""

import numpy as np

from anvil_jax.sparsity.coloring.incidence import Graph, Incidence


def one_direction(incidence: Incidence) -> int:
    """For colourings of the columns."""
    return int(incidence.row_lengths.max(initial=0))


def both_directions(incidence: Incidence) -> int:
    """For passes of both kinds together."""
    rows = int(np.count_nonzero(incidence.row_lengths))
    columns = int(np.count_nonzero(incidence.column_lengths))
    return -(-incidence.nnz // max(rows, columns, 1))


def symmetric(graph: Graph, star: bool) -> int:
    """For acyclic colourings, or for star colourings."""
    entries = graph.n_edges + int(graph.diagonal.sum())
    vertices = int(np.count_nonzero((graph.degrees > 0) | graph.diagonal))
    bound = -(-entries // max(vertices, 1))
    needed = graph if graph.diagonal.all() else graph.induced(graph.diagonal)
    if needed.n == 0:
        return bound
    bound = max(bound, _forests(needed.n, needed.n_edges), _clique(needed))
    long_path = np.any((needed.degrees[needed.sources] > 1) & (needed.degrees[needed.indices] > 1))
    return max(bound, 3) if star and long_path else bound


def _forests(vertices: int, edges: int) -> int:
    """Fewest colours k with room for the edges in the forests of all pairs of colours."""
    k = 1
    while (k - 1) * vertices - k * (k - 1) // 2 < edges:
        k += 1
    return k


def _clique(graph: Graph, tries: int = 8) -> int:
    """Size of a clique, grown from the vertices of largest degree."""
    largest = 1
    for start in np.argsort(-graph.degrees, kind="stable")[:tries]:
        clique, candidates = 1, graph.indices[graph.indptr[start] : graph.indptr[start + 1]]
        while len(candidates):
            chosen = candidates[np.argmax(graph.degrees[candidates])]
            clique += 1
            adjacent = graph.indices[graph.indptr[chosen] : graph.indptr[chosen + 1]]
            candidates = np.intersect1d(candidates, adjacent, assume_unique=True)
        largest = max(largest, clique)
        if largest > graph.degrees[start]:
            break
    return largest
