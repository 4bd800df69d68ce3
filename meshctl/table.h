/* Text in aligned columns. */
#ifndef MESHCTL_TABLE_H
#define MESHCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 24
#define TABLE_CELL_MAX 512

struct table {
	size_t columns, rows, capacity; /* the titles are row 0 */
	bool right[TABLE_COLUMNS_MAX];
	char **cells;
	bool failed; /* out of memory: rows are missing */
};

void table_init(struct table *t);
void table_free(struct table *t);
/* All columns before the first row; more than TABLE_COLUMNS_MAX are dropped. */
void table_column(struct table *t, const char *title, bool right);
/* Begins a row of "-". */
void table_row(struct table *t);
/* Sets a cell of the last row; the text is copied, cut, and made safe for a terminal. */
void table_cell(struct table *t, size_t column, const char *text);
/* A column in which every row is "-" says nothing and is left out, but for the first. */
void table_print(const struct table *t, FILE *out);
#endif
