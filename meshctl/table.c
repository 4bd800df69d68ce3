#include "meshctl/table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/buf.h"

#define GAP 2

void table_init(struct table *t)
{
	*t = (struct table){.rows = 1};
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells ? t->cells[i] : NULL);
	free(t->cells);
	table_init(t);
}

static char *cell_make(const char *text)
{
	char safe[TABLE_CELL_MAX];

	bytes_to_cstr(bytes_str(text), safe, sizeof safe);
	return strdup(safe);
}

static bool cells_reserve(struct table *t, size_t need)
{
	size_t capacity = t->capacity ? t->capacity : 64;
	char **cells;

	while (capacity < need)
		capacity *= 2;
	if (capacity == t->capacity)
		return true;
	cells = reallocarray(t->cells, capacity, sizeof *cells);
	if (!cells) {
		t->failed = true;
		return false;
	}
	t->cells = cells;
	t->capacity = capacity;
	return true;
}

void table_column(struct table *t, const char *title, bool right)
{
	if (t->columns == TABLE_COLUMNS_MAX || !cells_reserve(t, t->columns + 1))
		return;
	t->right[t->columns] = right;
	t->cells[t->columns++] = cell_make(title);
}

void table_row(struct table *t)
{
	if (t->failed || !cells_reserve(t, (t->rows + 1) * t->columns)) {
		t->failed = true;
		return;
	}
	for (size_t i = 0; i < t->columns; i++)
		t->cells[t->rows * t->columns + i] = NULL;
	t->rows++;
}

void table_cell(struct table *t, size_t column, const char *text)
{
	char **cell;

	if (t->failed || column >= t->columns || t->rows < 2)
		return;
	cell = &t->cells[(t->rows - 1) * t->columns + column];
	free(*cell);
	*cell = *text ? cell_make(text) : NULL;
}

static const char *cell_text(const struct table *t, size_t row, size_t column)
{
	const char *text = t->cells[row * t->columns + column];

	return text ? text : "-";
}

/* Bytes of the character at `p` and the character; what is no UTF-8 is one byte wide. */
static size_t character(const char *p, wchar_t *out)
{
	static const uint8_t lead[] = {0, 0x1f, 0x0f, 0x07};
	uint8_t first = (uint8_t)*p;
	size_t tail = first < 0xc0 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	uint32_t c = tail ? first & lead[tail] : first;

	for (size_t i = 1; i <= tail; i++) {
		if (((uint8_t)p[i] & 0xc0) != 0x80) {
			*out = L'?';
			return 1;
		}
		c = c << 6 | ((uint8_t)p[i] & 0x3f);
	}
	*out = (wchar_t)c;
	return tail + 1;
}

/* Columns of a terminal, not bytes: names may be in any script, and some take two a character, or
 * none (accents that are put on). */
static size_t text_width(const char *text)
{
	size_t width = 0;

	while (*text) {
		wchar_t c;
		int w;
		text += character(text, &c);
		w = wcwidth(c);
		width += w < 0 ? 1 : (size_t)w;
	}
	return width;
}

static bool is_empty(const struct table *t, size_t column)
{
	for (size_t r = 1; r < t->rows; r++)
		if (strcmp(cell_text(t, r, column), "-") != 0)
			return false;
	return t->rows > 1;
}

/* Those of 0 width are left out. */
static void row_print(const struct table *t, size_t row, const size_t *widths, FILE *out)
{
	size_t end = t->columns;

	while (end > 0 && !widths[end - 1])
		end--;
	for (size_t c = 0; c < end; c++) {
		if (!widths[c])
			continue;
		const char *text = cell_text(t, row, c);
		int pad = (int)(widths[c] - text_width(text));
		bool last = c + 1 == end;

		if (t->right[c])
			fprintf(out, "%*s%s", pad, "", text);
		else
			fprintf(out, "%s%*s", text, last ? 0 : pad, "");
		fprintf(out, "%*s", last ? 0 : GAP, "");
	}
	fputc('\n', out);
}

void table_print(const struct table *t, FILE *out)
{
	size_t widths[TABLE_COLUMNS_MAX] = {0};

	for (size_t c = 0; c < t->columns; c++) {
		for (size_t r = 0; r < t->rows && (c == 0 || !is_empty(t, c)); r++) {
			size_t w = text_width(cell_text(t, r, c));
			widths[c] = w > widths[c] ? w : widths[c];
		}
	}
	for (size_t r = 0; r < t->rows && t->columns; r++)
		row_print(t, r, widths, out);
}
